package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
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

// pretend makes a release whose programs are this test's.
func pretend(t *testing.T) *release {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	r := &release{targets: targets, version: "v1.2.3", commit: "abc", at: time.Unix(1700000000, 0).UTC(), root: filepath.Join("..", "..", ".."), out: t.TempDir(), licence: []byte("ours"), notices: []byte("theirs")}
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		r.libraries = append(r.libraries, library{path: m.Path, version: m.Version, licences: []string{"MIT"}})
	}
	var programs []program
	for _, target := range targets {
		for _, command := range commands(target.os) {
			programs = append(programs, program{target, command, content})
		}
	}
	for _, step := range []func() error{
		func() error { return r.archives(programs) }, func() error { return r.images(programs) },
		r.chart, func() error { return r.bill(programs) }, r.plugin, r.checksums,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// The programs for this machine are built, and are not larger than they may be.
func TestProgramsAreSmall(t *testing.T) {
	r := &release{targets: []target{{"linux", runtime.GOARCH}}, version: "v1.2.3", commit: "abc", root: filepath.Join("..", "..", "..")}
	programs, err := r.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		t.Logf("%s: %.1f MB", p.command, float64(len(p.content))/1e6)
	}
}

// An image holds the programs that the chart starts; the archive of the kubectl
// plugin holds one.
func TestImageHoldsAllPrograms(t *testing.T) {
	r := pretend(t)
	img, err := tarball.ImageFromPath(filepath.Join(r.out, "fairlead_1.2.3_image_linux_amd64.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	layers := mutate.Extract(img)
	defer layers.Close()
	var programs []string
	for files := tar.NewReader(layers); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode&0o111 != 0 && header.Typeflag == tar.TypeReg {
			programs = append(programs, header.Name)
		}
	}
	slices.Sort(programs)
	if want := []string{"fairlead", "fairlead-ccm"}; !slices.Equal(programs, want) {
		t.Errorf("programs %q, want %q", programs, want)
	}
	for _, archive := range []string{"fairlead_1.2.3_linux_amd64.tar.gz", "fairlead-ccm_1.2.3_linux_amd64.tar.gz"} {
		if !slices.Contains(r.written, archive) {
			t.Errorf("no %s in %q", archive, r.written)
		}
	}
}

func TestReleaseIsTheSameEachTime(t *testing.T) {
	sums := func() string {
		r := pretend(t)
		content, err := os.ReadFile(filepath.Join(r.out, "fairlead_1.2.3_checksums.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(content), "\n"); lines != len(r.written)-1 {
			t.Errorf("%d lines for %d files", lines, len(r.written)-1)
		}
		return string(content)
	}
	if one, two := sums(), sums(); one != two {
		t.Errorf("first\n%s\nthen\n%s", one, two)
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

func TestSectionOfTheChangeLog(t *testing.T) {
	log := "# Changes\n\n## v1.1.0 (2026-01-02)\n\n- new\n\n### More\n\n- more\n\n## v1.0.0\n\n- old\n\n## v0.9.0\n"
	for version, want := range map[string]string{
		"v1.1.0": "- new\n\n### More\n\n- more\n",
		"v1.0.0": "- old\n",
		"v1.0":   "",
		"v0.9.0": "",
	} {
		if got, err := section(log, version); got != want || err == nil != (want != "") {
			t.Errorf("%s: %q, %v", version, got, err)
		}
	}
}

func TestChartGetsTheVersion(t *testing.T) {
	got := string(stamp([]byte("apiVersion: v2\nversion: 0.1.0\nappVersion: 0.1.0\nkubeVersion: x\n"), "1.2.3"))
	if want := "apiVersion: v2\nversion: \"1.2.3\"\nappVersion: \"1.2.3\"\nkubeVersion: x\n"; got != want {
		t.Errorf("%s", got)
	}
}
