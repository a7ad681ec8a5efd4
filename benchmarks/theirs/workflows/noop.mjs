export const route = (_context, next) => next();
export async function run() {
  return { ok: true };
}
