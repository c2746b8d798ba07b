package kernels

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive is an initramfs in the making: the format newc of cpio, which the kernel
// documents in Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	out  bytes.Buffer
	made map[string]bool
	ino  int
}

// Bits of a file's mode as stat has them.
const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

// add puts a file at name, with the directories that lead to it.
func (a *archive) add(name string, content []byte) {
	if a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, modeFile, content)
}

// dir makes a directory and those that lead to it.
func (a *archive) dir(name string) {
	if name == "." || a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, modeDir, nil)
}

// entry is one header, 13 numbers of 8 hexadecimal digits, the name and the content.
func (a *archive) entry(name string, mode int, content []byte) {
	if a.made == nil {
		a.made = map[string]bool{}
	}
	a.made[name] = true
	a.ino++
	numbers := [13]int{a.ino, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0}
	a.out.WriteString("070701")
	for _, n := range numbers {
		fmt.Fprintf(&a.out, "%08X", n)
	}
	a.out.WriteString(name + "\x00")
	a.pad()
	a.out.Write(content)
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

// addFile puts the file of this machine at name.
func (a *archive) addFile(name, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	a.add(name, content)
	return nil
}

// addTree puts all files below a directory of this machine below name.
func (a *archive) addTree(dir, name string) error {
	return filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		inside, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return a.addFile(path.Join(name, inside), file)
	})
}

// bytes ends the archive. Archives may follow one another in one initramfs.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.out.Bytes()
}
