FROM ubuntu:14.04
MAINTAINER Somebody <somebody@example.org>
ENV DEBIAN_FRONTEND noninteractive
ENV PATH /opt/bin:$PATH
LABEL description This text has spaces
ADD archive.tar.gz /opt
VOLUME /data /logs
EXPOSE 80 443
ONBUILD COPY . /app
ONBUILD RUN make -C /app
STOPSIGNAL SIGQUIT
CMD service nginx start && tail -f /var/log/nginx/access.log
