# syntax=docker/dockerfile:1
ARG GO_VERSION=1.22
ARG BASE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/root/.cache/go-build \
    GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -o /out/app ./cmd/app

FROM build AS test
RUN go test ./...

FROM ${BASE}
COPY --from=build --chown=nobody:nogroup --chmod=0755 /out/app /usr/local/bin/
USER nobody
EXPOSE 8080/tcp
HEALTHCHECK --interval=30s --timeout=3s CMD ["app", "health"]
ENTRYPOINT ["app"]
CMD ["serve"]
