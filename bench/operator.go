package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
)

// patience bounds what is waited for: far above what anything takes.
const patience = 60 * time.Second

// operator speaks to the server's admin socket.
func (b *bench) operator() apiconnect.OperatorServiceClient {
	socket := filepath.Join(b.state(), "admin.sock")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return apiconnect.NewOperatorServiceClient(client, "http://rotunda")
}

// awaitProven waits until the intent's one placement has rotated so often and
// is proven and steady, and returns when that was heard.
func (b *bench) awaitProven(ctx context.Context, intent string, rotations uint64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := b.operator().WatchPlacements(ctx, connect.NewRequest(&api.ListPlacementsRequest{Intent: intent}))
	if err != nil {
		return time.Time{}, err
	}
	defer stream.Close()
	var last *api.PlacementStatus
	for stream.Receive() {
		heard := time.Now()
		for _, p := range stream.Msg().Placements {
			last = p
		}
		if last.GetRotations() >= rotations && last.GetLevel() == api.Level_LEVEL_PROVEN && last.GetState() == api.State_STATE_STEADY {
			return heard, nil
		}
	}
	return time.Time{}, fmt.Errorf("no proof of rotation %d: %w; last: %s %s", rotations, stream.Err(), last.GetReason(), last.GetFailure().GetReason())
}
