package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rotunda-pki/rotunda/fleettest"
)

// A stop ends the streams and takes no new call, while a call under way is
// answered.
func TestGracefulStop(t *testing.T) {
	p := fleettest.NewPlane(t)
	stream, _ := sync(t, t.Context(), agentClient(t, p, newAgent(t, p, nil).cert), 1)

	// A call whose second half comes when the server is stopping already.
	body, half := io.Pipe()
	reading := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reading) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/rotunda.v1.OperatorService/Info", body)
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue") // so that we hear when the handler reads
	client := socketHTTP(t, p.Config.AdminSocket)
	client.Transport.(*http.Transport).ExpectContinueTimeout = fleettest.Patience
	answer := make(chan string, 1)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		content, _ := io.ReadAll(response.Body)
		answer <- response.Status + " " + string(content)
	}()
	await(t, reading, "the call to begin")

	stopped := make(chan struct{})
	go func() {
		p.Stop()
		close(stopped)
	}()
	wantGRPC(t, endOf(stream), codes.Unavailable, "stopping")
	awaitRefusal(t, p.Config.AdminSocket)
	select {
	case <-stopped:
		t.Error("it stopped with a call under way")
	default:
	}
	_, err = io.WriteString(half, `{}`)
	must(t, err)
	must(t, half.Close())
	if got := <-answer; !strings.HasPrefix(got, "200 OK") || !strings.Contains(got, fleettest.TrustDomain) {
		t.Errorf("the call under way got %q", got)
	}
	await(t, stopped, "the stop")
	if _, err := p.Control.RegionFigures(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("figures are counted after the stop: %v", err)
	}
	p.Start() // and all is there again
	fetch(t, "http://"+p.Config.Listen.Public+"/readyz")
}

func await(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(fleettest.Patience):
		t.Fatalf("not within %s: %s", fleettest.Patience, what)
	}
}

// awaitRefusal waits until nobody listens on the socket.
func awaitRefusal(t *testing.T, socket string) {
	t.Helper()
	deadline := time.Now().Add(fleettest.Patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/", nil)
		must(t, err)
		response, err := socketHTTP(t, socket).Do(request)
		cancel()
		if err != nil {
			return
		}
		response.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still takes calls")
		}
	}
}
