//! The distribution's nginx as load balancer in front of the replicas of each role.

use std::fmt::Write;
use std::path::Path;

use crate::process::{ProcessSpec, find};

pub const NAME: &str = "nginx";

/// The process for these listen addresses, each with its upstream replicas.
pub fn spec(folder: &Path, backends: &[(String, Vec<String>)]) -> ProcessSpec {
    let root = folder.join(NAME);
    std::fs::create_dir_all(&root).expect("a folder for nginx");
    let mut servers = String::new();
    // A replica that fails is skipped for a second, so that a restarted one is soon used again.
    for (index, (front, replicas)) in backends.iter().enumerate() {
        let replicas = replicas.iter().fold(String::new(), |mut all, replica| {
            let _ = write!(all, "server {replica} max_fails=1 fail_timeout=1s; ");
            all
        });
        let _ = write!(
            servers,
            "
    upstream role{index} {{ {replicas} keepalive 16; }}
    server {{
        listen {front};
        location / {{ proxy_pass http://role{index}; }}
    }}
"
        );
    }
    let config = format!(
        "daemon off;
master_process off;
pid {root}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    client_max_body_size 2m;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    # Forward events immediately, and keep long-lived streams open.
    proxy_buffering off;
    proxy_read_timeout 1h;
    proxy_connect_timeout 2s;
{servers}}}
",
        root = root.display()
    );
    let file = root.join("nginx.conf");
    std::fs::write(&file, config).expect("nginx.conf is written");
    ProcessSpec {
        name: NAME.to_owned(),
        program: find("nginx").expect("nginx is installed"),
        arguments: vec![
            "-p".to_owned(),
            root.display().to_string(),
            "-c".to_owned(),
            file.display().to_string(),
        ],
        environment: Vec::new(),
        folder: folder.to_owned(),
        signal: "KILL",
    }
}
