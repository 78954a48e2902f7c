package ca

import (
	"crypto/x509"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/pki"
)

// The law: what an authority lets through, the one that contains it lets
// through as well.
func TestContainedConstraintsLoseNoName(t *testing.T) {
	domains := []string{"example.org", ".example.org", "a.example.org", ".a.example.org", "badexample.org", "org", "test"}
	hosts := []string{"example.org", ".example.org", "a.example.org", ".a.example.org", "test"}
	var nets []netip.Prefix
	for _, text := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "11.0.0.0/8", "fd00::/8", "fd00:1::/32", "0.0.0.0/0"} {
		nets = append(nets, netip.MustParsePrefix(text))
	}
	var probes []pki.Names
	for _, dns := range []string{"example.org", "a.example.org", "b.example.org", "x.a.example.org", "badexample.org", "x.org", "test", "x.test", "other"} {
		probes = append(probes, names(t, "", []string{dns}, nil, ""), names(t, "", nil, nil, "spiffe://"+dns+"/x"))
	}
	for _, ip := range []string{"10.0.0.1", "10.1.0.1", "10.1.1.1", "11.0.0.1", "12.0.0.1", "fd00::1", "fd00:1::1", "fe00::1"} {
		probes = append(probes, names(t, "", nil, []string{ip}, ""))
	}
	contained, parted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draw := func(who string) (c constraints) {
			text := func(from []string, label string) []string {
				return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID[string]).Draw(t, who+label)
			}
			prefixes := func(label string) []netip.Prefix {
				return rapid.SliceOfNDistinct(rapid.SampledFrom(nets), 0, 2, rapid.ID[netip.Prefix]).Draw(t, who+label)
			}
			switch rapid.IntRange(0, 2).Draw(t, who+"kind") { // of one kind at a time, or few are contained
			case 0:
				c.permittedDNS, c.excludedDNS = text(domains, "permits"), text(domains, "excludes")
			case 1:
				c.permittedIPs, c.excludedIPs = prefixes("permits"), prefixes("excludes")
			case 2:
				c.permittedURI, c.excludedURI = text(hosts, "permits"), text(hosts, "excludes")
			}
			return c
		}
		outer, inner := draw("outer "), draw("inner ")
		if outer.contain(inner) != nil {
			parted++
			return
		}
		contained++
		for _, name := range probes {
			if inner.check(name) == nil && outer.check(name) != nil {
				t.Fatalf("%+v contains %+v, but not %v", outer, inner, name.Strings())
			}
		}
	})
	if contained < 5 || parted < 5 {
		t.Errorf("%d contained, %d not: the test says nothing", contained, parted)
	}
}

// It must not be too strict either: these are contained.
func TestConstraintsThatAreContained(t *testing.T) {
	net := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	for name, c := range map[string]struct{ outer, inner constraints }{
		"none":               {constraints{}, constraints{permittedDNS: []string{"a.test"}}},
		"the same":           {constraints{permittedDNS: []string{"a.test"}}, constraints{permittedDNS: []string{"A.test"}}},
		"all":                {constraints{permittedDNS: []string{""}}, constraints{permittedDNS: []string{"a.test", ".b"}}},
		"below":              {constraints{permittedDNS: []string{".test"}}, constraints{permittedDNS: []string{"a.test", ".test", ".a.test"}}},
		"excluded elsewhere": {constraints{excludedDNS: []string{"b.test"}}, constraints{permittedDNS: []string{"a.test"}}},
		"excluded by both":   {constraints{excludedDNS: []string{"b.test"}}, constraints{permittedDNS: []string{"test"}, excludedDNS: []string{"b.test", "c.test"}}},
		"addresses":          {constraints{permittedIPs: net("10.0.0.0/8", "fc00::/7")}, constraints{permittedIPs: net("10.0.0.0/8", "fd00::/8")}},
		"hosts":              {constraints{permittedURI: []string{".test", "a.b"}}, constraints{permittedURI: []string{"x.test", ".y.test", "a.b"}}},
	} {
		if err := c.outer.contain(c.inner); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConstraintsThatAreNotContained(t *testing.T) {
	net := func(text string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(text)} }
	for name, c := range map[string]struct{ outer, inner constraints }{
		"the domain itself": {constraints{permittedDNS: []string{".test"}}, constraints{permittedDNS: []string{"test"}}},
		"a like ending":     {constraints{permittedDNS: []string{"example.org"}}, constraints{permittedDNS: []string{"badexample.org"}}},
		"a wider net":       {constraints{permittedIPs: net("10.0.0.0/16")}, constraints{permittedIPs: net("10.0.0.0/8")}},
		"free addresses":    {constraints{excludedIPs: net("10.0.0.0/8")}, constraints{permittedDNS: []string{"a.test"}}},
		"below a host":      {constraints{permittedURI: []string{"test"}}, constraints{permittedURI: []string{".test"}}},
	} {
		if err := c.outer.contain(c.inner); err == nil {
			t.Errorf("%s: contained", name)
		}
	}
}

// The kinds that are compared, and the one that is not.
func TestOtherConstraintsAreSeen(t *testing.T) {
	comparable, _ := rootWith(t, "r", constrainOld, func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} })
	plain, _ := rootWith(t, "r")
	directory, _ := rootWith(t, "r", func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, directoryConstraint(t, "x")) })
	broken := *plain
	broken.Extensions = append(broken.Extensions, directoryConstraint(t, "x"))
	broken.Extensions[len(broken.Extensions)-1].Value = []byte{0x30, 2, 1}
	for cert, want := range map[*x509.Certificate]bool{comparable: false, plain: false, directory: true, &broken: true} {
		if got := constrainsOtherNames(cert); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
