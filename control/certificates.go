package control

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/store"
)

// ListCertificates shows certificates that are still valid, soonest expiry
// first.
func (c *Control) ListCertificates(ctx context.Context, caller Caller, req *api.ListCertificatesRequest) (*api.ListCertificatesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListCertificatesResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		query := store.CertificateQuery{Intent: req.Intent, ValidAfter: tx.Now}
		if req.IncludeExpired {
			query.ValidAfter = time.Time{}
		}
		if expiring := req.Expiring.AsDuration(); expiring > 0 {
			query.ExpiresBefore = tx.Now.Add(expiring)
		}
		authorities, err := tx.Authorities(ctx)
		if err != nil {
			return err
		}
		byID := map[string]store.Authority{}
		for _, one := range authorities {
			byID[one.ID] = one
		}
		certificates, err := tx.Certificates(ctx, query)
		for _, certificate := range certificates {
			info := certificateInfo(certificate)
			info.AuthorityName, info.AuthorityRegion = byID[certificate.AuthorityID].Name, byID[certificate.AuthorityID].Region
			response.Certificates = append(response.Certificates, info)
		}
		return err
	})
	return response, err
}

func certificateInfo(record store.Certificate) *api.CertificateInfo {
	var seen policy.Input // what the policy saw; of other kinds nothing
	_ = json.Unmarshal(record.PolicyInput, &seen)
	return &api.CertificateInfo{
		Region: seen.Agent.Region,
		Serial: record.Serial.String(), Kind: string(record.Kind), Subject: record.Names, Intent: record.Intent,
		Agent: record.AgentID, Placement: record.PlacementID, Generation: record.Generation, Authority: record.AuthorityID,
		NotBefore: stamp(record.NotBefore), NotAfter: stamp(record.NotAfter), RevokedAt: stamp(record.RevokedAt),
		RevocationReason: record.Reason, Fingerprint: record.Fingerprint.String(), Spki: record.SPKI.String(), Der: record.DER,
	}
}

// ListAuthorities shows the certificate authorities.
func (c *Control) ListAuthorities(ctx context.Context, caller Caller, _ *api.ListAuthoritiesRequest) (*api.ListAuthoritiesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListAuthoritiesResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		authorities, err := tx.Authorities(ctx)
		for _, record := range authorities {
			info, err := authorityInfo(record)
			if err != nil {
				return err
			}
			response.Authorities = append(response.Authorities, info)
		}
		return err
	})
	return response, err
}

// AuthorityCertificate is an authority's certificate, in DER.
func (c *Control) AuthorityCertificate(ctx context.Context, id string) ([]byte, error) {
	var der []byte
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		record, err := tx.Authority(ctx, id)
		der = record.Certificate
		return err
	})
	return der, err
}

const (
	defaultOperatorLife = 365 * 24 * time.Hour
	longestOperatorLife = 2 * defaultOperatorLife
)

// IssueOperator signs an operator's client certificate for a key made where
// the operator is.
func (c *Control) IssueOperator(ctx context.Context, caller Caller, req *api.IssueOperatorRequest) (*api.IssueOperatorResponse, error) {
	if err := authorize(caller, "operator.issue"); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	life := defaultOperatorLife
	if req.Lifetime != nil {
		life = req.Lifetime.AsDuration()
	}
	if life < time.Minute || life > longestOperatorLife {
		return nil, fault.New(fault.Invalid, "lifetime %s of an operator's certificate is outside 1m to %s", life, longestOperatorLife)
	}
	response := &api.IssueOperatorResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		issued, err := c.signOperator(ctx, tx, req.Name, csr, life)
		if err != nil {
			return err
		}
		if response.Anchors, err = c.anchorsIn(ctx, tx); err != nil {
			return err
		}
		response.Chain = issued.Chain
		response.AuditId, err = done(ctx, tx, caller, "operator.issue", "Operator/"+req.Name, map[string]any{
			"serial": issued.Serial.String(), "notAfter": issued.NotAfter.UTC().Format(time.RFC3339),
		})
		return err
	})
	return response, err
}

// anchorsIn is what to trust servers by.
func (c *Control) anchorsIn(ctx context.Context, tx *store.Tx) ([][]byte, error) {
	bundle, err := c.currentBundle(ctx, tx, fleet.DefaultBundle)
	if err != nil {
		return nil, err
	}
	return bundle.DER(), nil
}

func (c *Control) signOperator(ctx context.Context, tx *store.Tx, name string, csr *x509.CertificateRequest, life time.Duration) (ca.Issued, error) {
	if _, err := fleet.ParseName(name); err != nil {
		return ca.Issued{}, err
	}
	names, err := c.roleNames(pki.RoleOperator, name, nil, nil)
	if err != nil {
		return ca.Issued{}, err
	}
	terms := ca.Terms{Lifetime: life, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	issued, err := c.sign(ctx, tx, ca.Request{PublicKey: csr.PublicKey, Names: names, Terms: terms})
	if err != nil {
		return ca.Issued{}, err
	}
	record := certificateRecord(store.KindOperator, issued, names, tx.Now)
	record.Operator = name
	return issued, tx.InsertCertificates(ctx, record)
}

// roleNames are the names of a certificate of Rotunda's own.
func (c *Control) roleNames(role pki.Role, id string, dns, ips []string) (pki.Names, error) {
	spiffe, err := pki.RoleID(c.domain, role, id)
	if err != nil {
		return pki.Names{}, err
	}
	return pki.ParseNames("", dns, ips, spiffe.String())
}

// ServerIdentity signs a certificate for the control plane's own listeners. It
// returns the whole chain, roots included.
func (c *Control) ServerIdentity(ctx context.Context, id string, public any, dns, ips []string, life time.Duration) ([][]byte, error) {
	names, err := c.roleNames(pki.RoleServer, id, dns, ips)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	// Also while the store is rolled back: without it nobody could read.
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		terms := ca.Terms{Lifetime: life, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		issued, err := c.sign(ctx, tx, ca.Request{PublicKey: public, Names: names, Terms: terms})
		if err != nil {
			return err
		}
		if err := tx.InsertCertificates(ctx, certificateRecord(store.KindServer, issued, names, tx.Now)); err != nil {
			return err
		}
		if chain, err = c.shownChain(ctx, tx, issued); err != nil {
			return err
		}
		_, err = done(ctx, tx, Caller{Kind: Server, ID: id}, "server.identity", "Server/"+id, map[string]any{
			"serial": issued.Serial.String(), "names": names.Strings(),
		})
		return err
	})
	return chain, err
}

// ReplayPolicy decides again on what was issued, under the policies of the
// files, or those in force where there are none.
func (c *Control) ReplayPolicy(ctx context.Context, caller Caller, req *api.ReplayPolicyRequest) (*api.ReplayPolicyResponse, error) {
	if err := authorize(caller, "policy.replay"); err != nil {
		return nil, err
	}
	response := &api.ReplayPolicyResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		engine, err := c.replayEngine(ctx, tx, req.Files)
		if err != nil {
			return err
		}
		issued, err := tx.Certificates(ctx, store.CertificateQuery{Kind: store.KindLeaf, IssuedAfter: req.Since.AsTime()})
		if err != nil {
			return err
		}
		for _, record := range issued {
			if len(record.PolicyInput) == 0 {
				continue // re-entered by a restore: what the policy saw is lost
			}
			var input policy.Input
			if err := json.Unmarshal(record.PolicyInput, &input); err != nil {
				return fault.Wrap(fault.Internal, err, "what the policy saw of certificate %s", record.Serial)
			}
			response.Certificates++
			if decision := engine.Decide(input); !decision.Allowed {
				response.Differences = append(response.Differences, &api.ReplayDifference{
					Serial: record.Serial.String(), Intent: record.Intent, Agent: record.AgentID,
					Names: namesOf(input), Was: record.Rule, Now: decision.Rule,
				})
			}
		}
		return nil
	})
	return response, err
}

func (c *Control) replayEngine(ctx context.Context, tx *store.Tx, sources []*api.SourceFile) (*policy.Engine, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return w.engine, nil
	}
	var files []fleet.File
	for _, source := range sources {
		files = append(files, fleet.File{Path: source.Path, Content: source.Content})
	}
	documents, findings := fleet.ParseFiles(files)
	set := fleet.NewSet()
	for _, document := range w.set.OfKind(fleet.KindPolicy) {
		set.Put(document)
	}
	for _, document := range documents {
		set.Put(document)
	}
	engine, compiled := policy.Compile(set.OfKind(fleet.KindPolicy))
	if findings = append(findings, compiled...); fleet.HasErrors(findings) {
		var lines []string
		for _, finding := range findings {
			lines = append(lines, finding.String())
		}
		return nil, fault.New(fault.Invalid, "%s", strings.Join(lines, "\n"))
	}
	return engine, nil
}
