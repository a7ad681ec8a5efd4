import { agent } from '../model.mjs';

export default agent();
