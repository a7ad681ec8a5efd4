import { agent, open } from '../model.mjs';

export const route = open;
export const websocket = open;
export default agent();
