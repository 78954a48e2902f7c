package ca

import (
	"bytes"
	"testing"
)

// Each target holds the law that what is taken reads back the same.

func FuzzParseCeremonyRequest(f *testing.F) {
	order := newRootOrder()
	order.Bridge = &BridgeOrder{}
	data, err := hold(f, order, nil).request.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"kind":"rotunda.authority.request/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := ParseCeremonyRequest(data)
		if err != nil {
			return
		}
		encoded, err := request.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCeremonyRequest(encoded)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := request.Digest()
		if second, err := again.Digest(); err != nil || first != second {
			t.Fatalf("digest %s, then %s, %v", first, second, err)
		}
	})
}

func FuzzParseCeremonyResponse(f *testing.F) {
	data, err := hold(f, newRootOrder(), nil).response.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		response, err := ParseCeremonyResponse(data)
		if err != nil {
			return
		}
		encoded, err := response.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCeremonyResponse(encoded)
		if err != nil || again.Request != response.Request || !bytes.Equal(again.Root.Raw, response.Root.Raw) || !bytes.Equal(again.Issuing.Raw, response.Issuing.Raw) {
			t.Fatalf("it reads back as another, %v", err)
		}
	})
}
