// Package forensic is the file that is left of a compromise: what happened, which
// certificates were in wrong hands, who had access to their keys, what was observed
// at the processes that used them, and the entries of the audit log that say so,
// each with its proof.
//
// It is a tar of plain JSON and PEM files, compressed by zstd, so that it can be
// read without this program. What proves it is the log: each entry leads to a
// checkpoint that the log's key signed, each observation is signed by its observer,
// and each certificate by its issuer. The manifest only finds what was damaged on
// the way.
package forensic

import (
	"encoding/json"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
)

// Format names the layout, in the manifest.
const Format = "rotunda-forensic-bundle/v1"

// The members of a bundle, beside a file in certificates/ for each certificate.
const (
	manifestName  = "manifest.json"
	subjectName   = "compromise.json"
	timelineName  = "timeline.txt"
	entriesName   = "entries.jsonl"
	evidenceName  = "evidence.jsonl"
	accessName    = "access.json"
	recordsName   = "certificates.jsonl"
	certificateIn = "certificates/"
)

// Bundle is what goes into the file.
type Bundle struct {
	ID           string          // of the compromise
	Made         time.Time       //
	By           string          // who made it, in words
	LogKey       string          // verifier key that the entries were verified by
	Checkpoint   []byte          // the signed note that all proofs lead to
	Subject      json.RawMessage // the compromise and its revocation, as the server shows them
	Entries      []audit.Exported
	Certificates []Certificate
	Evidence     []Evidence
	Hosts        []Host
}

// Roles of certificates in a bundle.
const (
	Affected  = "affected"  // its key is in wrong hands
	Authority = "authority" // somebody's issuer
	Observer  = "observer"  // an agent's identity, by which it signed evidence
	Operator  = "operator"  // somebody could call as an operator by it
)

// Certificate is a certificate that has to do with the compromise.
type Certificate struct {
	Role       string     `json:"role"`
	Serial     string     `json:"serial"` // hex
	Kind       string     `json:"kind"`
	Subject    string     `json:"subject"`
	Intent     string     `json:"intent,omitempty"`
	Agent      string     `json:"agent,omitempty"`
	Placement  string     `json:"placement,omitempty"`
	Generation uint64     `json:"generation,omitempty"`
	IssuedAt   time.Time  `json:"issuedAt"`
	NotAfter   time.Time  `json:"notAfter"`
	RevokedAt  *time.Time `json:"revokedAt,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	DER        []byte     `json:"-"`
}

func (c Certificate) file() string { return certificateIn + c.Role + "-" + c.Serial + ".pem" }

// Evidence is one observation of a process that used an affected key.
type Evidence struct {
	Placement string    `json:"placement"`
	Observer  string    `json:"observer"` // agent
	Digest    string    `json:"digest"`   // hex SHA-256 of the statement
	Verdict   string    `json:"verdict"`
	At        time.Time `json:"at"`
	Statement []byte    `json:"statement"` // exact bytes
	Signature []byte    `json:"signature"` // by one of the observer's certificates
}

// Host is where an affected key was.
type Host struct {
	Agent      string            `json:"agent"`
	Labels     map[string]string `json:"labels,omitempty"`
	Facts      map[string]string `json:"facts,omitempty"` // as it says of itself
	State      string            `json:"state"`
	EnrolledAt time.Time         `json:"enrolledAt"`
	SeenAt     time.Time         `json:"seenAt"`
}

// Access is who could get at the keys, and who did something about them.
type Access struct {
	Hosts     []Host  `json:"hosts"`     // where the keys were
	Operators []Actor `json:"operators"` // who could call as an operator when the bundle was made
	Actors    []Actor `json:"actors"`    // by whom the entries are
}

// Actor is somebody who could act, or did.
type Actor struct {
	Name    string     `json:"name"` // "operator/alice"
	Serials []string   `json:"serials,omitempty"`
	Entries int        `json:"entries,omitempty"`
	Refused int        `json:"refused,omitempty"`
	First   *time.Time `json:"first,omitempty"`
	Last    *time.Time `json:"last,omitempty"`
}

// manifest is the first member.
type manifest struct {
	Format     string    `json:"format"`
	Compromise string    `json:"compromise"`
	Made       time.Time `json:"made"`
	By         string    `json:"by"`
	LogKey     string    `json:"logKey"`
	Files      []file    `json:"files"`
}

type file struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}
