FROM alpine

RUN apk add --no-cache \
      # build tools
      gcc \

      make \
  && echo "a \
 b" \
  && true
ENV A=1 \
    B="two words" \
    # a comment between
    C='it''s'
CMD [ "sh", \
      "-c", \
      "echo hi" ]
