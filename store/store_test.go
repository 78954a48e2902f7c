package store_test

import (
	"testing"

	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

func TestStore(t *testing.T) { storetest.Run(t, store.Open) }
