import { open } from '../model.mjs';

export const route = open;
export const websocket = open;
export async function run() {
  throw new Error('kaboom');
}
