package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/fairlead/fairlead/internal/tools/release/image"
)

// References of the images that the lab makes: no registry is asked.
const (
	pauseImage   = "fairlead.test/pause:dev"
	corednsImage = "fairlead.test/coredns:dev"

	// HelloImage holds the test server and the probe as /hello.
	HelloImage = "ghcr.io/fairlead/hello:dev"

	// FairleadImage holds the product as /fairlead and /fairlead-ccm.
	FairleadImage = fairleadRepository + ":dev"

	fairleadRepository = "ghcr.io/fairlead/fairlead"
)

// WriteImage writes an archive of an image in which the static program at binary
// is /NAME and the entry point, made as a release is. The programs beside it are in
// the image under the names of their files.
func WriteImage(path, ref, binary, name string, beside ...string) error {
	programs := map[string]string{name: binary}
	for _, other := range beside {
		programs[filepath.Base(other)] = other
	}
	return writeImage(path, ref, programs, image.Spec{Program: name})
}

// WriteImageOn is WriteImage with a root file system below the program, such as
// debian.Userland. Name is a path without its leading slash, and args are the program's
// unless a pod has its own. Without a binary, the program is the root file system's.
func WriteImageOn(base, path, ref, binary, name string, args ...string) error {
	programs := map[string]string{}
	if binary != "" {
		programs[name] = binary
	}
	return writeImage(path, ref, programs, image.Spec{Program: name, Base: base, Args: args})
}

// writeImage adds programs, by their names in the image, to spec.
func writeImage(path, ref string, programs map[string]string, spec image.Spec) error {
	spec.Arch, spec.Quick = runtime.GOARCH, true
	spec.Files = []image.File{{Name: "tmp/", Mode: 0o1777}}
	for file, from := range programs {
		content, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
		spec.Files = append(spec.Files, image.File{Name: file, Mode: 0o755, Content: content})
	}
	img, err := image.Build(spec)
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	var archive bytes.Buffer
	if err := image.Archive(&archive, ref, img); err != nil {
		return err
	}
	return os.WriteFile(path, archive.Bytes(), 0o644)
}

func (l *Lab) imageFile(ref string) string {
	return filepath.Join(l.state.file("images"), strings.NewReplacer("/", "_", ":", "_").Replace(ref)+".tar")
}

// binary is the path of a program that the lab builds from this checkout.
func (l *Lab) binary(name string) string { return filepath.Join(l.state.file("bin"), name) }

func (l *Lab) buildPause(ctx context.Context) error { return l.buildOwn(ctx, "pause") }

func (l *Lab) buildOwn(ctx context.Context, name string) error {
	step := l.progress.Begin("building %s", name)
	args := []string{"build", "-trimpath", "-ldflags", stripped, "-o", l.binary(name), "./cmd/" + name}
	return step.Done(goBuild(ctx, step, l.opt.Source, args))
}

// writeImages makes the images that every node has from the start.
func (l *Lab) writeImages(ctx context.Context) error {
	if err := l.buildOwn(ctx, "hello"); err != nil {
		return err
	}
	images := []struct{ ref, path, name string }{
		{pauseImage, l.binary("pause"), "pause"},
		{corednsImage, l.programs["coredns"], "coredns"},
		{HelloImage, l.binary("hello"), "hello"},
	}
	for _, i := range images {
		if err := WriteImage(l.imageFile(i.ref), i.ref, i.path, i.name); err != nil {
			return err
		}
	}
	return nil
}

// UpdateHello brings the test server of this checkout to the nodes of a lab that
// was up already. Pods that run keep the one that they have.
func (l *Lab) UpdateHello(ctx context.Context) error {
	if err := l.buildOwn(ctx, "hello"); err != nil {
		return err
	}
	if err := WriteImage(l.imageFile(HelloImage), HelloImage, l.binary("hello"), "hello"); err != nil {
		return err
	}
	return l.Import(ctx, l.imageFile(HelloImage))
}

// Import brings an image archive to every node.
func (l *Lab) Import(ctx context.Context, path string) error { return l.ground().load(ctx, path) }

func (l *Lab) importInto(ctx context.Context, n node, path string) error {
	archive, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer archive.Close()
	cmd, err := l.Command(ctx, n.name, "ctr", "--namespace=k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = archive
	_, err = output(cmd)
	return err
}
