import { closed } from '../model.mjs';

export const route = closed;
export const websocket = closed;
export async function run() {}
