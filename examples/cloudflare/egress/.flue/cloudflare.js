import { Sandbox } from '@cloudflare/sandbox';

// What a program in the container sends to GitHub passes through here, outside of it, and gets the token on the way.
// Nothing else leaves the container.
export class GitHubSandbox extends Sandbox {
  enableInternet = false;
  interceptHttps = true;
  allowedHosts = ['github.com', 'api.github.com'];

  static outboundByHost = {
    'github.com': (request, env) => authorized(request, `Basic ${btoa(`x-access-token:${env.GITHUB_TOKEN}`)}`),
    'api.github.com': (request, env) => authorized(request, `Bearer ${env.GITHUB_TOKEN}`),
  };
}

function authorized(request, authorization) {
  if (new URL(request.url).protocol !== 'https:') return new Response('https only', { status: 403 });
  const headers = new Headers(request.headers);
  headers.set('Authorization', authorization);
  // A redirect goes back into the container: the token stays with the host that it is for.
  return fetch(request, { headers, redirect: 'manual' });
}
