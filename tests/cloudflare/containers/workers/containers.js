// Stands where Wrangler would find @cloudflare/containers: the package itself, with `ctx.container` made up.
//
// `ctx.container` is the platform's handle of one container, which only a Docker engine (or Cloudflare) provides. This
// one starts a stand-in at CONTAINERS_URL, sends it what the package sends to the container's port, and keeps the
// fetchers that the package wants outgoing requests to go through.
import { Container as Original } from 'original-containers';

export * from 'original-containers';

class StandInContainer {
  constructor(ctx, env) {
    this.url = `${env.CONTAINERS_URL}/${ctx.id}`;
    this.running = false;
    this.hosts = new Map();
    this.everything = null;
  }

  start(options) {
    this.running = true;
    this.options = options ?? {};
    this.ended = new Promise((resolve) => (this.end = resolve));
  }

  async monitor() {
    await this.ended;
  }

  signal() {
    this.stop();
  }

  async destroy() {
    this.stop();
    await fetch(`${this.url}/destroy`, { method: 'POST' });
  }

  stop() {
    this.running = false;
    this.end?.();
  }

  getTcpPort() {
    return {
      fetch: (url, init) => {
        if (!this.running) throw new Error('The container is not running, consider calling start()');
        const { pathname, search } = new URL(url);
        return fetch(new Request(`${this.url}/port${pathname}${search}`, init));
      },
    };
  }

  async interceptOutboundHttp(host, fetcher) {
    this.hosts.set(host, fetcher);
  }

  async interceptOutboundHttps(host, fetcher) {
    this.hosts.set(`https://${host}`, fetcher);
  }

  async interceptAllOutboundHttp(fetcher) {
    this.everything = fetcher;
  }
}

export class Container extends Original {
  constructor(ctx, env, options) {
    Object.defineProperty(ctx, 'container', { value: new StandInContainer(ctx, env), configurable: true });
    super(ctx, env, options);
  }

  // What a program in the container would get that sends this request.
  async outgoing(url, headers) {
    const { hosts, everything, options } = this.ctx.container;
    const { hostname, protocol } = new URL(url);
    const fetcher = hosts.get(protocol === 'https:' ? `https://${hostname}` : hostname) ?? everything;
    if (!fetcher) return { intercepted: false, internet: options.enableInternet };
    const response = await fetcher.fetch(url, { headers });
    return { intercepted: true, status: response.status, body: await response.text() };
  }
}
