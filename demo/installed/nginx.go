package installed

import (
	"fmt"
	"os"
	"path/filepath"
)

const nginxConf = `daemon off;
%[5]s
pid %[1]s/nginx.pid;
error_log stderr warn;
worker_processes 2;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen %[2]s ssl;
        ssl_certificate %[3]s/chain.pem;
        ssl_certificate_key %[3]s/key.pem;
        ssl_client_certificate %[3]s/bundle.pem;
        ssl_verify_client on;
        ssl_verify_depth 2;
        location / { return 200 "%[4]s\n"; }
    }
}
`

// Greeting is what the demo's nginx answers.
const Greeting = "nginx of the demo"

func nginx() kind {
	conf := func(s Server) string { return filepath.Join(s.Data, "nginx.conf") }
	return kind{
		name: "nginx", patterns: []string{"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx"},
		prepare: func(s Server) error {
			as := ""
			if os.Geteuid() == 0 {
				as = "user root;" // the run's directory is not everybody's
			}
			content := fmt.Sprintf(nginxConf, s.Data, s.Listen, filepath.Join(s.Files, "current"), Greeting, as)
			return os.WriteFile(conf(s), []byte(content), 0o600)
		},
		command: func(s Server) []string { return []string{s.Binary, "-e", "stderr", "-p", s.Data, "-c", conf(s)} },
		control: func(s Server) Control {
			return Control{PIDFile: filepath.Join(s.Data, "nginx.pid"), Program: s.Binary, Arguments: []string{"-e", "stderr", "-p", s.Data, "-c", conf(s)}}
		},
	}
}
