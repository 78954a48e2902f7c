package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newDescribeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe KIND/NAME",
		Short: "Show all about one document, placement, agent, certificate or authority",
		Long: `Shows one thing in full. KIND is a kind of document, or placement, agent,
certificate or authority; NAME is its name, id or serial. A document is shown
as YAML that can be edited and applied again.`,
		Example: `  rotunda describe intent/orders-db
  rotunda describe intent/orders-db > orders-db.yaml
  rotunda describe placement/0199c2f4-6a51-7c1e-8000-3f5ad8b60c11
  rotunda describe certificate/0199c2f46a51f00dcafe0123456789ab`,
		Args: cobra.RangeArgs(1, 2),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.ValidArgsFunction = completeFirst(conn, describable)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind, name, err := splitKey(args)
		if err != nil {
			return err
		}
		describe, ok := describers(kind)
		if !ok {
			return usagef("there is no kind %q: it is one of %s", kind, strings.Join(describableKinds(), ", "))
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			return describe(ctx, s, u, *output, name)
		})
	}
	return cmd
}

type describer func(ctx context.Context, s *server, u *ui, f format, name string) error

func describers(kind string) (describer, bool) {
	switch kind {
	case "placement":
		return describePlacement, true
	case "agent":
		return describeAgent, true
	case "certificate":
		return describeCertificateRecord, true
	case "authority":
		return describeAuthority, true
	}
	document, ok := documentKind(kind)
	return func(ctx context.Context, s *server, u *ui, f format, name string) error {
		return describeDocument(ctx, s, u, f, document, name)
	}, ok
}

func describableKinds() []string {
	return append([]string{"placement", "agent", "certificate", "authority"}, documentKindWords()...)
}

func describable(ctx context.Context, s *server) ([]string, error) {
	keys, err := documentKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	agents, err := agentIDs(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, id := range agents {
		keys = append(keys, "agent/"+id)
	}
	return keys, nil
}

// splitKey reads KIND/NAME, or KIND NAME.
func splitKey(args []string) (kind, name string, err error) {
	kind, name, _ = strings.Cut(args[0], "/")
	if len(args) == 2 && name == "" {
		name = args[1]
	} else if len(args) == 2 {
		return "", "", usagef("%s %s: name one thing, as KIND/NAME", args[0], args[1])
	}
	if kind == "" || name == "" {
		return "", "", usagef("%q names no one thing: it is written KIND/NAME, such as intent/orders-db", args[0])
	}
	return strings.ToLower(kind), name, nil
}

// documentKind finds a kind of document by its name in any case, singular or
// plural.
func documentKind(text string) (string, bool) {
	for _, kind := range fleet.Kinds() {
		if one := strings.ToLower(string(kind)); strings.EqualFold(text, one) || strings.EqualFold(text, pluralOf(one)) {
			return string(kind), true
		}
	}
	return "", false
}

func describeDocument(ctx context.Context, s *server, u *ui, f format, kind, name string) error {
	list, err := invoke(ctx, s.ListDocuments, &api.ListDocumentsRequest{Kind: kind, Name: name})
	if err != nil {
		return err
	}
	if len(list.Documents) != 1 {
		return missingThing(kind, name, "rotunda get "+pluralOf(strings.ToLower(kind)))
	}
	document := list.Documents[0]
	if f != formatTable {
		return u.show(f, document, nil)
	}
	source, err := yamlOf(document.Json)
	if err != nil {
		return err
	}
	from := ""
	if document.GitCommit != "" {
		from = ", from commit " + document.GitCommit
	}
	u.say("# revision %d, changed %s by %s%s", document.Revision, exact(u.now, document.ChangedAt), document.ChangedBy, from)
	_, err = u.out.Write(source)
	return err
}

func missingThing(kind, name, list string) error {
	return fault.New(fault.NotFound, "there is no %s/%s", strings.ToLower(kind), name).WithRemedy("%s lists what there is", list)
}

func describeAgent(ctx context.Context, s *server, u *ui, f format, id string) error {
	list, err := invoke(ctx, s.ListAgents, &api.ListAgentsRequest{Id: id})
	if err != nil {
		return err
	}
	for _, a := range list.Agents {
		if a.Id == id {
			return u.show(f, a, func() { u.sheet(agentSheet(u, a)) })
		}
	}
	return missingThing("agent", id, "rotunda get agents")
}

func agentSheet(u *ui, a *api.AgentInfo) []field {
	connected := "no"
	if a.Connected {
		connected = "yes"
	}
	return []field{
		{"agent", a.Id},
		{"state", a.State},
		{"connected", connected},
		{"seen", exact(u.now, a.SeenAt)},
		{"alarm", a.Alarm},
		{"region", a.Region},
		{"zone", a.Zone},
		{"labels", pairs(a.Labels)},
		{"facts", pairs(a.Facts)},
		{"clock", a.ClockOffset},
		{"boot", number(a.Boot)},
		{"enrolled", exact(u.now, a.EnrolledAt)},
		{"identity ends", exact(u.now, a.IdentityNotAfter)},
	}
}

func describeCertificateRecord(ctx context.Context, s *server, u *ui, f format, serial string) error {
	list, err := invoke(ctx, s.ListCertificates, &api.ListCertificatesRequest{IncludeExpired: true})
	if err != nil {
		return err
	}
	serial = strings.ToLower(strings.ReplaceAll(serial, ":", ""))
	var found []*api.CertificateInfo
	for _, c := range list.Certificates {
		if c.Serial == serial || c.Fingerprint == serial || len(serial) >= 6 && strings.HasSuffix(c.Serial, serial) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return missingThing("certificate", serial, "rotunda get certificates --all")
	case 1:
		return u.show(f, found[0], func() { showCertificate(u, found[0]) })
	}
	return fault.New(fault.Conflict, "%d certificates end in %s", len(found), serial).WithRemedy("say the whole serial")
}

func showCertificate(u *ui, c *api.CertificateInfo) {
	generation := ""
	if c.Generation > 0 {
		generation = number(c.Generation)
	}
	fields := []field{
		{"serial", c.Serial},
		{"kind", c.Kind},
		{"subject", c.Subject},
		{"intent", c.Intent},
		{"agent", c.Agent},
		{"placement", c.Placement},
		{"generation", generation},
		{"authority", c.Authority},
		{"not before", exact(u.now, c.NotBefore)},
		{"not after", exact(u.now, c.NotAfter)},
		{"revoked", strings.TrimSpace(exact(u.now, c.RevokedAt) + " " + c.RevocationReason)},
		{"fingerprint", c.Fingerprint},
		{"spki", c.Spki},
	}
	u.sheet(append(fields, derFields(c.Der)...))
	u.pem(c.Der)
}

func derFields(der []byte) []field {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil // an older server sends none
	}
	return []field{
		{"issuer", certificate.Issuer.String()},
		{"algorithm", certificate.PublicKeyAlgorithm.String()},
		{"crl", strings.Join(certificate.CRLDistributionPoints, " ")},
	}
}

func (u *ui) pem(der []byte) {
	if len(der) > 0 {
		_ = pem.Encode(u.out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
}

func describeAuthority(ctx context.Context, s *server, u *ui, f format, name string) error {
	list, err := invoke(ctx, s.ListAuthorities, &api.ListAuthoritiesRequest{})
	if err != nil {
		return err
	}
	for _, a := range list.Authorities {
		if a.Name != name && a.Id != name {
			continue
		}
		return u.show(f, a, func() {
			u.sheet([]field{
				{"authority", a.Name}, {"id", a.Id}, {"kind", a.Kind}, {"state", a.State}, {"key", a.Key},
				{"algorithm", a.Algorithm}, {"subject", a.Subject}, {"not after", exact(u.now, a.NotAfter)},
				{"fingerprint", a.Fingerprint},
			})
			u.pem(a.Der)
		})
	}
	return missingThing("authority", name, "rotunda get authorities")
}

// field is one line of a sheet; a field without a value is left out.
type field struct{ name, value string }

// sheet prints fields with their values aligned.
func (u *ui) sheet(fields []field) {
	for _, line := range sheetLines(fields) {
		u.say("%s", line)
	}
}

func sheetLines(fields []field) []string {
	width := 0
	for _, f := range fields {
		if f.value != "" {
			width = max(width, len(f.name))
		}
	}
	var lines []string
	for _, f := range fields {
		if f.value != "" {
			lines = append(lines, f.name+strings.Repeat(" ", width-len(f.name))+"  "+oneLine(f.value))
		}
	}
	return lines
}

// indented is JSON as a reader likes it, or the text as it is.
func indented(data []byte) string {
	var value any
	if json.Unmarshal(data, &value) != nil {
		return string(data)
	}
	text, err := yamlOf(data)
	if err != nil {
		return string(data)
	}
	return "    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ")
}
