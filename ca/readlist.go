package ca

import (
	"crypto/x509"
	"regexp"
	"strconv"
)

var shardInURL = regexp.MustCompile(`/crl/[^/]+/([0-9]{1,3})\.crl`)

// ShardOf is which list of its authority this is: the shard that its issuing
// distribution point names, or WholeList where it has none. The caller has
// verified the list's signature; lists of other makers are not ok.
func ShardOf(list *x509.RevocationList) (shard int, ok bool) {
	for _, extension := range list.Extensions {
		if !extension.Id.Equal(oidIssuingDistributionPoint) {
			continue
		}
		found := shardInURL.FindSubmatch(extension.Value)
		if found == nil {
			return 0, false
		}
		shard, err := strconv.Atoi(string(found[1]))
		return shard, err == nil && shard < Shards
	}
	return WholeList, true
}
