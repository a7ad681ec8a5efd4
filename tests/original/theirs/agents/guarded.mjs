import { agent, closed } from '../model.mjs';

export const route = closed;
export const websocket = closed;
export default agent();
