FROM node AS parent
ONBUILD WORKDIR /app
ONBUILD COPY --from=parent /etc/passwd /etc/
ONBUILD RUN <<SH
npm ci
SH
FROM parent AS child
CMD ["node", "."]
FROM child
