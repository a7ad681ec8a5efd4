import { agent, open } from '../model.mjs';

export const route = open;
export const websocket = open;
export async function run(context) {
  const harness = await context.init(agent());
  const session = await harness.session();
  const reply = await session.prompt(context.payload.question);
  return { text: reply.text };
}
