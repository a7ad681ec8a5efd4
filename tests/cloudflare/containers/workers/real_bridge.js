// The package's own bridge, as its template has it.
import { Sandbox } from '@cloudflare/sandbox';
import { bridge } from '@cloudflare/sandbox/bridge';

export { ContainerProxy } from '@cloudflare/sandbox';
export { WarmPool } from '@cloudflare/sandbox/bridge';
export { Sandbox };
export default bridge({ fetch: () => new Response(null, { status: 404 }) });
