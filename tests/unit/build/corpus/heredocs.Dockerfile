FROM debian:bookworm
RUN <<EOF
set -eu
apt-get update
apt-get install -y vim
EOF
RUN <<-'SCRIPT'
	#!/usr/bin/env python3
	print("$not expanded")
	SCRIPT
RUN python3 <<PY && cat <<TEXT > /text
print("hello")
PY
some text
TEXT
COPY <<robots.txt <<"humans.txt" /usr/share/nginx/html/
User-agent: $AGENT
robots.txt
No $expansion here
humans.txt
