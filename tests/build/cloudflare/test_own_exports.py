from __future__ import annotations

import pytest

from flue.build.wrangler.own_exports import javascript_names, python_names
from tests.build.cloudflare.samples import OUTBOUND


def test_a_class_that_extends_the_sandbox_is_an_export() -> None:
    assert javascript_names(OUTBOUND) == (frozenset({"MySandbox"}), False)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("export { Sandbox as SupportSandbox, Other } from '@cloudflare/sandbox';", {"SupportSandbox", "Other"}),
        (
            "export const A = 1; export async function b() {}\nexport abstract class C<T> extends D<T> {}",
            {"A", "b", "C"},
        ),
        ("export * as box from './box.js'", {"box"}),
        ("export default class Worker {}; export { Worker as default }", set()),
        ("export type { T } from 'x'; export interface I {}; export { type U, type V as W, X }", {"X"}),
        ("// export class A {}\n/* export class B {} */ const s = 'export class C {}'; `export class D {}`", set()),
        ("const quote = /['\"]/;\nexport class E {}", {"E"}),
        ("myexport class F {}; x.export class G {}", set()),
        ("const m = { class: 1 }; export{H}", set()),
        ("export { I }", {"I"}),
    ],
)
def test_the_names_that_a_javascript_module_exports(text: str, names: set[str]) -> None:
    assert javascript_names(text) == (frozenset(names), False)


def test_a_star_export_is_told_apart_from_the_names_beside_it() -> None:
    assert javascript_names("export class A {}\nexport * from './more.js'") == (frozenset({"A"}), True)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class A: pass\nB = A\nC: type = A\nD: type\ndef e(): ...", {"A", "B", "C", "e"}),
        ("from x import F as G, H\nimport i.j, k as l", {"G", "H", "i", "l"}),
        (
            "try:\n    from x import M\nexcept ImportError:\n    M = N = None\nif True:\n    class O: ...",
            {"M", "N", "O"},
        ),
        ("def f():\n    class Inner: ...\nclass P:\n    class Q: ...", {"f", "P"}),
    ],
)
def test_the_names_that_a_python_module_binds(text: str, names: set[str]) -> None:
    assert python_names(text) == (frozenset(names), False)


def test_a_star_import_may_bind_more() -> None:
    assert python_names("from x import *\nclass A: ...") == (frozenset({"A"}), True)
