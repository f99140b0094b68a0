# docker build -t @NAME@ . && docker save @NAME@ | gzip > @NAME@.tar.gz && chmod 755 @NAME@.tar.gz
#
# For a GPU node of Colosseum, which starts sshd -D and logs in as root (manage_docker_containers.rst of
# colosseum-wiot/user-documentation). Give root a key or a password before you push the image.
FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates iproute2 openssh-server python3.11 \
        python3.11-venv rsync \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /run/sshd \
    && ssh-keygen -A \
    && sed -i 's/#PermitRootLogin prohibit-password/PermitRootLogin yes/' /etc/ssh/sshd_config
COPY . /tmp/splitfl-image
ARG TORCH_INDEX=
RUN sh /tmp/splitfl-image/install.sh && rm -rf /tmp/splitfl-image
ENV PATH=/opt/splitfl/bin:$PATH
ENTRYPOINT ["/usr/sbin/sshd", "-D"]
