package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Everything that the programs are built from has a licence that is allowed.
func TestLicencesAreAllowed(t *testing.T) {
	list, err := libraries(t.Context(), filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 50 {
		t.Errorf("only %d modules", len(list))
	}
	t.Log("\n" + summary(list))
}

func TestLicenceThatIsNotAllowed(t *testing.T) {
	for _, one := range []struct {
		name, file, content, want string
	}{
		{"none", "README", "free as in beer", "has no licence file"},
		{"unknown", "LICENSE", "You may use this on Sundays.", "licence unknown (0 %) is not allowed"},
		{"copyleft", "COPYING", gpl, "licence GPL-3.0-or-later is not allowed"},
	} {
		t.Run(one.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, one.file), []byte(one.content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := (&source{path: "example.com/lib", version: "v1.0.0", root: dir, dirs: map[string]bool{dir: true}}).library()
			if err == nil || !strings.Contains(err.Error(), one.want) {
				t.Errorf("error %v, want %q", err, one.want)
			}
		})
	}
}

const gpl = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU General Public License for more details.

You should have received a copy of the GNU General Public License
along with this program.  If not, see <https://www.gnu.org/licenses/>.`

// pretend makes images of small files, as goreleaser would list programs, and the bill
// of this test's own program.
func pretend(t *testing.T) *release {
	t.Helper()
	root := t.TempDir()
	list := `[{"name": "archive", "path": "nowhere", "type": "Archive"}`
	for _, arch := range []string{"amd64", "arm64"} {
		for _, name := range []string{"fairlead", "second"} {
			path := name + "-" + arch
			if err := os.WriteFile(filepath.Join(root, path), []byte(path), 0o755); err != nil {
				t.Fatal(err)
			}
			list += fmt.Sprintf(`, {"name": %q, "path": %q, "goos": "linux", "goarch": %q, "type": "Binary"}`, name, path, arch)
		}
	}
	artifacts := filepath.Join(root, "artifacts.json")
	if err := os.WriteFile(artifacts, []byte(list+"]"), 0o644); err != nil {
		t.Fatal(err)
	}
	programs, err := built(root, artifacts)
	if err != nil {
		t.Fatal(err)
	}
	r := &release{version: "v1.2.3", commit: "abc", at: time.Unix(1700000000, 0).UTC(), out: t.TempDir(), licence: []byte("ours"), notices: []byte("theirs")}
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		r.libraries = append(r.libraries, library{path: m.Path, version: m.Version, licences: []string{"MIT"}})
	}
	if err := r.images(programs); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if programs[0].content, err = os.ReadFile(self); err != nil {
		t.Fatal(err)
	}
	if err := r.bill(programs[:1]); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReleaseIsTheSameEachTime(t *testing.T) {
	one, two := pretend(t), pretend(t)
	for _, name := range []string{"fairlead_1.2.3_image_linux_amd64.tar", "fairlead_1.2.3_image_linux_arm64.tar", "fairlead_1.2.3_image_linux.tar", "image-digest.txt", "fairlead_1.2.3_sbom.cdx.json"} {
		first, err := os.ReadFile(filepath.Join(one.out, name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(two.out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s differs", name)
		}
	}
}

// TestImageHasEveryProgram: a program that goreleaser builds for Linux is in the image
// of its architecture.
func TestImageHasEveryProgram(t *testing.T) {
	img, err := tarball.ImageFromPath(filepath.Join(pretend(t).out, "fairlead_1.2.3_image_linux_arm64.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	content := mutate.Extract(img)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if err == io.EOF { //nolint:errorlint // as archive/tar returns it
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	want := []string{"fairlead", "licenses", "licenses/LICENSE", "licenses/THIRD-PARTY-NOTICES.txt", "second", "tmp"}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("the image has %q, want %q", names, want)
	}
}

// TestImageWithoutItsProgram: an architecture for which nothing was built is an error
// and not an image that cannot start.
func TestImageWithoutItsProgram(t *testing.T) {
	r := &release{version: "v1.2.3", out: t.TempDir()}
	err := r.images([]program{{"fairlead", "linux", "amd64", []byte("code")}, {"fairlead", "darwin", "arm64", []byte("code")}})
	if err == nil || !strings.Contains(err.Error(), "linux/arm64: no program fairlead") {
		t.Errorf("error %v", err)
	}
}

func TestBillNamesEveryModule(t *testing.T) {
	r := pretend(t)
	content, err := os.ReadFile(filepath.Join(r.out, "fairlead_1.2.3_sbom.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Purl string }
	}
	if err := json.Unmarshal(content, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || len(bom.Components) != len(r.libraries)+1 {
		t.Errorf("%s with %d components, want %d and Go's library", bom.BOMFormat, len(bom.Components), len(r.libraries))
	}
	info, _ := debug.ReadBuildInfo()
	if _, err := components([]*debug.BuildInfo{info}, nil); err == nil {
		t.Error("a module whose licence nobody looked at is in the bill")
	}
}
