package pki

import (
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestNamesAreMadeRegular(t *testing.T) {
	n, err := ParseNames("DB", []string{"DB.Example.org", "db.example.org", "*.x.org"}, []string{"::ffff:10.0.0.1", "10.0.0.1", "FD00:0::1"}, "spiffe://td/db")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"CN=DB", "db.example.org", "*.x.org", "10.0.0.1", "fd00::1", "spiffe://td/db"}
	if !slices.Equal(n.Strings(), want) {
		t.Errorf("names %v, want %v", n.Strings(), want)
	}
	same, err := ParseNames("DB", []string{"*.x.org", "db.example.org"}, []string{"fd00::1", "10.0.0.1"}, "spiffe://td/db")
	if err != nil || !n.Equal(same) || !same.Equal(n) {
		t.Errorf("order shows: %v", err)
	}
	fewer, err := ParseNames("DB", []string{"*.x.org"}, []string{"fd00::1", "10.0.0.1"}, "spiffe://td/db")
	if err != nil || n.Equal(fewer) || fewer.Equal(n) {
		t.Errorf("a missing name does not show: %v", err)
	}
}

func TestBadNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	type in struct{ cn, dns, ip, uri string }
	for rule, cases := range map[string][]in{
		"no names":                         {{}},
		"printable":                        {{cn: "a\nb"}, {cn: "a\x00"}, {cn: "\xff"}, {cn: "a\u202eb"}},
		"begin or end with a space":        {{cn: " a"}},
		"RFC 5280 allows 64":               {{cn: long + "a"}},
		"1 to 63":                          {{dns: long + ".org"}, {dns: "a..b"}, {dns: ".a"}, {dns: "a."}},
		"1 to 253":                         {{dns: strings.Repeat("a.", 127) + "org"}},
		"bare wildcard":                    {{dns: "*"}},
		"letters, digits":                  {{dns: "a_b.org"}, {dns: "a.*.org"}, {dns: "a*.org"}, {dns: "bücher.org"}, {dns: "a b"}, {dns: "a/b"}, {dns: "a\x00b"}, {dns: "*.*.org"}},
		"begins or ends with a hyphen":     {{dns: "-a.org"}, {dns: "a-.org"}},
		"list it under ipAddresses":        {{dns: "10.0.0.1"}, {dns: "::1"}},
		"ends in a number":                 {{dns: "a.10"}, {dns: "10.0.0.0.1"}},
		"must be IPv4 or IPv6 text":        {{ip: "db"}, {ip: "10.0.0"}, {ip: "10.0.0.1/8"}, {ip: "010.0.0.1"}},
		"has a zone":                       {{ip: "fe80::1%eth0"}},
		"unspecified":                      {{ip: "0.0.0.0"}, {ip: "::"}, {ip: "::ffff:0.0.0.0"}},
		"must be a SPIFFE ID":              {{uri: "https://a/b"}, {uri: "spiffe://TD/a"}, {uri: "spiffe://td/a/../b"}, {uri: "spiffe://td/a?b"}},
		"a certificate's must have a path": {{uri: "spiffe://td"}},
	} {
		for _, c := range cases {
			list := func(s string) []string {
				if s == "" {
					return nil
				}
				return []string{s}
			}
			if _, err := ParseNames(c.cn, list(c.dns), list(c.ip), c.uri); err == nil || !strings.Contains(err.Error(), rule) {
				t.Errorf("%+v: got %v, want %q", c, err, rule)
			}
		}
	}
	for _, name := range []string{"localhost", "a", "1a", "xn--bcher-kva.org", "a.b-c.d1", strings.Repeat("a", 63) + ".org"} {
		if _, err := ParseNames("", []string{name}, nil, ""); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
}

func TestNamesOfCertificate(t *testing.T) {
	h := newHierarchy(t)
	if got := NamesOf(h.leaf.cert).Strings(); !slices.Equal(got, []string{"db.example.org"}) {
		t.Errorf("names %v", got)
	}
}

func TestReservedIdentities(t *testing.T) {
	td := spiffeid.RequireTrustDomainFromString("td")
	for role, make := range map[Role]func(spiffeid.TrustDomain, string) (spiffeid.ID, error){
		RoleServer: ServerID, RoleAgent: AgentID, RoleOperator: OperatorID, RoleCanary: CanaryID,
	} {
		id, err := make(td, "x-1")
		if err != nil || id.String() != "spiffe://td/rotunda/"+string(role)+"/x-1" || !ReservedPath(id) {
			t.Errorf("%s: %s, %v", role, id, err)
		}
		if gotRole, got, err := ParseRoleID(id); gotRole != role || got != "x-1" || err != nil {
			t.Errorf("%s reads back as %s %s, %v", id, gotRole, got, err)
		}
		for _, bad := range []string{"", "a/b", "..", "a b"} {
			if _, err := make(td, bad); err == nil {
				t.Errorf("%s %q was made", role, bad)
			}
		}
		if _, err := make(spiffeid.TrustDomain{}, "x"); err == nil {
			t.Errorf("%s of no trust domain was made", role)
		}
	}
	for path, reserved := range map[string]bool{
		"/rotunda": true, "/rotunda/agent/x": true, "/rotunda/other": true, "/rotundas/agent/x": false, "/db": false, "/db/rotunda/agent/x": false,
	} {
		id := spiffeid.RequireFromPath(td, path)
		if ReservedPath(id) != reserved {
			t.Errorf("%s reserved: %v", path, !reserved)
		}
	}
	for _, path := range []string{"/rotunda", "/rotunda/agent", "/rotunda/agent/x/y", "/rotunda/king/x", "/db/agent/x"} {
		if role, id, err := ParseRoleID(spiffeid.RequireFromPath(td, path)); err == nil {
			t.Errorf("%s reads as %s %s", path, role, id)
		}
	}
}
