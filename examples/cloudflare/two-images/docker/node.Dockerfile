FROM docker.io/cloudflare/sandbox:0.12.10
RUN npm install --global typescript@5
