# leapd, leapctl and leap-memserver in one image; which one runs is the command. docs/docker.md says how.
#   docker build -t leap .
ARG BASE=debian:12-slim
# The image whose /usr/local has Node.js 20 with npm and headers: Debian 12 has an older Node.
ARG NODE=node:20-bookworm-slim

FROM ${NODE} AS node

FROM ${BASE} AS build
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates g++ make python3 \
    libibverbs-dev liburing-dev librdmacm-dev libxxhash-dev
COPY --from=node /usr/local /usr/local
WORKDIR /leap
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN bash scripts/build.sh \
  && npm prune --omit=dev --no-audit --no-fund \
  && mkdir -p out/dist out/build/Release dist/server \
  && cp -r package.json LICENSE node_modules out/ \
  && cp -r dist/daemon dist/server dist/src out/dist/ \
  && cp build/Release/leap.node out/build/Release/ \
  && find out -name '*.map' -delete

FROM ${BASE}
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    ibverbs-providers libibverbs1 librdmacm1 libstdc++6 liburing2 libxxhash0 \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --system --no-create-home --shell /usr/sbin/nologin leap
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=build /leap/out /leap
RUN for program in daemon/leapd daemon/leapctl server/leap-memserver; do \
  ln -s "/leap/dist/$program.js" "/usr/local/bin/${program#*/}"; done
# leapd pages other users' processes: run it as root, with the few capabilities of compose.yaml. Run leap-memserver with
# --user leap.
CMD ["leapd", "--help"]
