ARG REGISTRY
ARG IMAGE=${REGISTRY:+$REGISTRY/}debian
ARG TAG=bookworm
FROM ${IMAGE}:${TAG:-latest} AS base
ARG VERSION=v1.2.3
ENV VERSION_NUMBER=${VERSION#v} MAJOR=${VERSION%%.*} DASHED=${VERSION//./-} SLASHED=${VERSION/./\/}
LABEL version="${VERSION_NUMBER}" note="costs \$5" "key with space"="x"
WORKDIR /srv/${VERSION_NUMBER}
WORKDIR sub
USER ${APP_USER:-nobody}:${APP_GROUP:-nogroup}
EXPOSE ${PORT:-8080}/tcp
VOLUME ["/data/${VERSION}"]
COPY --chown=${APP_USER:-nobody} [ "a file", "dir/${VERSION}/" ]
FROM scratch
COPY --from=base /srv /
