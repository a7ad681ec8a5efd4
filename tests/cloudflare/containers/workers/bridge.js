// Stands where the Python Worker would be: calls methods of bound objects for a test, over HTTP.
export default {
  async fetch(request, env) {
    const { binding, name, method, args } = await request.json();
    const namespace = env[binding];
    const stub = namespace.get(namespace.idFromName(name));
    try {
      const result = await stub[method](...args);
      return result instanceof ReadableStream ? new Response(result) : Response.json({ result: result ?? null });
    } catch (error) {
      const { name, message, errorResponse } = error;
      return Response.json({ error: { name, message, code: errorResponse?.code ?? '' } }, { status: 500 });
    }
  },
};
