import { open } from '../model.mjs';

export const route = open;
export const websocket = open;
export async function run(context) {
  for (let beat = 0; beat < 4; beat++) {
    context.log.info(`beat ${beat}`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}
