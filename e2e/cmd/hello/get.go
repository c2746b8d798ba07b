package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// getCommand prints the page at a URL; with -post it asks with POST.
func getCommand(ctx context.Context, args []string) error {
	method := http.MethodGet
	if len(args) == 2 && args[0] == "-post" {
		method, args = http.MethodPost, args[1:]
	}
	if len(args) != 1 {
		return errors.New("usage: hello get [-post] http://HOST:PORT/PATH")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, args[0], nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", args[0], response.Status)
	}
	return nil
}
