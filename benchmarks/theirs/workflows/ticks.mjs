export const route = (_context, next) => next();
export async function run(context) {
  for (let tick = 0; tick < context.payload.ticks; tick++) {
    await new Promise((wake) => setTimeout(wake, 10));
    context.log.info('tick');
  }
}
