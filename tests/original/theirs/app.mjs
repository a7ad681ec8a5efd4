import { admin, flue } from '@flue/runtime/app';
import { Hono } from 'hono';

const app = new Hono();
app.route('/api', flue());
app.route('/admin', admin());
export default app;
