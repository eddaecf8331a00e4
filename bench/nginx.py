"""nginx as a reverse proxy, the limit of what a proxy can do: from PATH, else a Debian package, else left out."""

import shutil
from pathlib import Path

from bench.commands import run

CONFIG = """
daemon off;
worker_processes 1;
error_log {folder}/error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_max_body_size 32m;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream provider {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def find(cache: Path) -> Path | None:
    """Give nginx's program; unpack it under `cache` without root where it is not installed; `None` where that fails."""
    if installed := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"):
        return Path(installed)
    folder = cache / "bench-nginx"
    program = folder / "usr/sbin/nginx"
    if not program.exists() and shutil.which("apt-get"):
        print("nginx is not installed: unpacking its Debian package without root")
        folder.mkdir(parents=True, exist_ok=True)
        run(["apt-get", "-q", "download", "nginx"], folder)
        for package in folder.glob("nginx_*.deb"):
            run(["dpkg", "-x", package, folder])
    works, _ = run([program, "-v"])
    return program if works else None


def command(program: Path, folder: Path, port: int, upstream_port: int) -> list[str]:
    """Write nginx's configuration into `folder` and give the command that starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, upstream_port=upstream_port))
    return [str(program), "-p", str(folder), "-c", str(config), "-e", str(folder / "start.log")]
