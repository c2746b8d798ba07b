// Package controller_test tells what the controller does to a real API server.
// With FAIRLEAD_E2E=1 it starts one, without nodes; without, it is skipped.
package controller_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/fairlead/fairlead/e2e/apiserver"
)

var (
	server  *apiserver.Server
	scratch string // a directory that is gone after the tests
)

func TestMain(m *testing.M) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		os.Exit(m.Run())
	}
	code, err := withServer(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		code = 1
	}
	os.Exit(code)
}

func withServer(m *testing.M) (int, error) {
	var err error
	if scratch, err = os.MkdirTemp("", "fairlead-apiserver-"); err != nil {
		return 1, err
	}
	if server, err = apiserver.Start(context.Background(), scratch, os.Stderr); err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	defer server.Stop()
	return m.Run(), nil
}
