package control

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

// BenchmarkIssue is the server's share of one issuance without the wire, with
// 64 in flight.
func BenchmarkIssue(b *testing.B) {
	d := found(b)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	csrs := make([][]byte, b.N)
	for i := range csrs {
		_, csrs[i] = csr(b)
	}
	var generation atomic.Uint64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := generation.Add(1)
			response, err := d.Issue(context.Background(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{
				{PlacementId: placement, Generation: n, Csr: csrs[n-1]},
			}})
			if err != nil {
				b.Error(err)
			} else if result := response.Results[0]; result.ErrorCode != "" {
				b.Error(result.Error)
			}
		}
	})
}
