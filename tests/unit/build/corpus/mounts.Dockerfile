# check=skip=JSONArgsRecommended;error=true
FROM debian AS deps
RUN --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    --mount=type=cache,id=pip,target=/root/.cache/pip,sharing=locked,mode=0700,uid=0 \
    --mount=type=secret,id=pypi,env=PIP_TOKEN,required=true \
    --mount=type=ssh,id=default --mount=type=tmpfs,target=/scratch,size=128m \
    --network=none --security=sandbox \
    pip install -r /tmp/requirements.txt
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d --link \
    https://example.org/linux.tar.gz /src/
ADD --keep-git-dir=true https://example.org/repo.git#v1:docs /docs
COPY --parents --exclude=*.txt --exclude=**/tests ./src/./lib/** /out/
