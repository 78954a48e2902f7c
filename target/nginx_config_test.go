package target

import (
	"strings"
	"testing"
)

// TestNginxConfigurationIsRead as nginx -T prints it, or the end of it.
func TestNginxConfigurationIsRead(t *testing.T) {
	at := Target{Name: "web", Directory: "/srv/web", Control: &Control{}}
	const head = "nginx version: nginx/1.22.1\nnginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n# configuration file /etc/nginx/nginx.conf:\n"
	for _, c := range []struct {
		name, text, want string
	}{
		{"named", head + "server {\n ssl_certificate /srv/web/current/chain.pem;\n}", ""},
		{"quoted, in one line", head + `server { listen 1; ssl_certificate "/srv/web/current/chain.pem"; }`, ""},
		{"towards upstreams", head + " proxy_ssl_certificate /srv/web/current/chain.pem;", ""},
		{"anchors alone", head + " ssl_client_certificate /srv/web/current/bundle.pem;", ""},
		{"anchors of upstreams", head + " grpc_ssl_trusted_certificate /srv/web/current/bundle.pem;", ""},
		{"in a comment", head + " # ssl_certificate /srv/web/current/chain.pem;\n ssl_certificate /etc/a.pem;", "it has"},
		{"after a comment's sign", head + "listen 1; # ssl_certificate /srv/web/current/chain.pem;", "no ssl_certificate at all"},
		{"a revision's own", head + " ssl_certificate /srv/web/rev-000001/chain.pem;", "ssl_certificate /srv/web/rev-000001/chain.pem"},
		{"another's", head + " ssl_certificate /srv/web2/current/chain.pem;", "ssl_certificate /srv/web2/current/chain.pem"},
		{"a key alone", head + " ssl_certificate_key /srv/web/current/key.pem;", "no ssl_certificate at all"},
		{"the end of a long one", " ssl_certificate /etc/a.pem;", ""},
		{"cut within the first file", "ration file /etc/nginx/nginx.conf:\n ssl_certificate /etc/a.pem;\n# configuration file /etc/b:\n", ""},
	} {
		err := at.usedBy(c.text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(c.want, "it has")) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestWorkersChangeOver(t *testing.T) {
	before := []worker{{1, false}, {2, false}, {9, true}}
	for _, c := range []struct {
		now  []worker
		want bool
	}{
		{before, false},
		{nil, false},
		{[]worker{{3, false}}, true},
		{[]worker{{1, true}, {2, true}, {3, false}, {4, false}}, true},
		{[]worker{{1, true}, {2, false}, {3, false}, {4, false}}, false}, // one still accepts
		{[]worker{{1, true}, {2, true}}, false},                          // nobody does
		{[]worker{{1, true}, {2, true}, {3, true}}, false},               // nor here
	} {
		if got := changedOver(before, c.now); got != c.want {
			t.Errorf("%v: %t", c.now, got)
		}
	}
}
