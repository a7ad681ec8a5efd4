import { createAgent } from '@flue/runtime';

export const websocket = (_context, next) => next();
export default createAgent(() => ({ model: false }));
