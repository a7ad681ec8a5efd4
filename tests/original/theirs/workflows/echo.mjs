import { open } from '../model.mjs';

export const route = open;
export const websocket = open;
export async function run(context) {
  context.log.info('echoing', { given: context.payload });
  return context.payload;
}
