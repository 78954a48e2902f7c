package pki

// VerifyDepth is the verify depth (OpenSSL's -verify_depth, nginx's
// ssl_verify_depth) that a party which trusts b needs for the chain: how many
// intermediates stand between leaf and anchor. Intermediates that are sent and
// not needed don't count. The error says why there is no anchor at all.
func (c Chain) VerifyDepth(b Bundle) (int, error) {
	if c.Leaf == nil {
		return 0, refuseChain("it has no leaf")
	}
	path, err := c.pathTo(b)
	if err != nil {
		return 0, err
	}
	return len(path) - 2, nil
}
