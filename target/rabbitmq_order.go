package target

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
)

// closeRabbitSessions closes connections by the issuer of their clients'
// certificates, or all under TLS. It asks the node itself: rabbitmqctl would
// start once for each of them.
func closeRabbitSessions(ctx context.Context, host Host, t Target, o Order) (Result, error) {
	node, err := t.askRabbit(ctx, host, rabbitClose(o.Issuers), "closed => Closed")
	if err != nil {
		return Result{}, err
	}
	return Result{Outcome: Done, Count: node.Closed, Words: fmt.Sprintf("%d AMQP connections of %s were told to close; who does not answer is cut off after half a minute", node.Closed, ofIssuers(o.Issuers))}, nil
}

// rabbitClose binds Closed: how many connections it closed. Names travel in
// Base64, since no line of Erlang may hold what a shell would read.
func rabbitClose(issuers []*x509.Certificate) string {
	wanted := make([]string, len(issuers))
	for i, issuer := range issuers {
		wanted[i] = `<<"` + base64.StdEncoding.EncodeToString([]byte(issuer.Subject.String())) + `">>`
	}
	return `Want = [base64:decode(W) || W <- [` + strings.Join(wanted, ", ") + `]], ` +
		`I = fun(C, K) -> case rabbit_networking:connection_info(C, [K]) of [{K, V}] -> V; _ -> undefined end end, ` +
		`Mine = fun(C) -> try I(C, ssl) =:= true andalso (Want =:= [] orelse lists:member(B(I(C, peer_cert_issuer)), Want)) catch _:_ -> false end end, ` +
		`Closed = length([rabbit_networking:close_connection(C, "the CA of its certificate is withdrawn") || C <- rabbit_networking:connections_local(), Mine(C)]), `
}
