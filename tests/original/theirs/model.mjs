import { createAgent } from '@flue/runtime';
import { registerProvider } from '@flue/runtime/app';

registerProvider('fake', { api: 'anthropic-messages', baseUrl: process.env.FAKE_MODEL_URL, apiKey: 'test-key' });

export const open = (_context, next) => next();
export const closed = (context) => context.json({ who: 'nobody' }, 401);
export const look = {
  name: 'look',
  description: 'Look an item up.',
  parameters: { type: 'object', properties: { item: { type: 'string' } }, required: ['item'] },
  execute: async ({ item }) => `${item}: 3 left`,
};
export const agent = () => createAgent(() => ({ model: 'fake/m1', tools: [look] }));
