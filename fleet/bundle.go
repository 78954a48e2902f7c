package fleet

// DefaultBundle is the name of the bundle that every trust domain has: its
// own anchors. No document may have this name.
const DefaultBundle Name = "default"

// Bundle is a named set of anchors.
type Bundle struct {
	// The anchors. Their order does not matter.
	Anchors []Anchor `json:"anchors,omitempty"`
}

func (*Bundle) kind() Kind { return KindBundle }

// Anchor is a root certificate: one that the document carries, or that of an
// authority which the control plane records. It says exactly one of the two.
type Anchor struct {
	// CA certificates in PEM.
	PEM string `json:"pem,omitempty"`
	// The name of an authority.
	Authority string `json:"authority,omitempty"`
}
