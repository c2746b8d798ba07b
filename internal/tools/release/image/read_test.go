package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
)

func read(t *testing.T, content []byte) []File {
	t.Helper()
	var files []File
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{Name: header.Name, Mode: header.Mode, Content: data})
	}
}
