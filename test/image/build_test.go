package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flyproxy/flyproxy/test/internal/netns"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// version is what the images are stamped with.
const version = "v0.0.0-image-test"

// builder builds the images in a storage of its own, so that the user's images are not touched, and lays out their roots as plain folders.
type builder struct {
	dir     string
	overlay bool // whether the kernel lets us mount overlays
	err     error

	mu     sync.Mutex // guards what follows while it builds
	log    bytes.Buffer
	took   []string // what took how long
	images map[string]*image
}

// image is one that was built.
type image struct {
	root string // the whole of its files
	env  []string
	cmd  []string
	user string
}

var (
	building sync.Once
	built    = &builder{images: make(map[string]*image)}
)

func TestMain(m *testing.M) {
	flag.Parse()
	// What runs side by side mostly waits for supervisord.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(func() int {
		defer built.remove()
		return m.Run()
	}())
}

// images builds all of them, once, with the real `make image`. The name of an image is its target and architecture: app-amd64.
func images(t *testing.T, name string) *image {
	t.Helper()
	for _, program := range []string{"buildah", "debootstrap", "redis-server"} {
		_, err := exec.LookPath(program)
		proc.Need(t, program, err == nil)
	}
	proc.Need(t, "root with iproute2", netns.Possible())
	building.Do(func() { built.err = built.build() })
	if built.err != nil {
		t.Fatalf("%v\n%s", built.err, built.log.String())
	}
	return built.images[name]
}

func (b *builder) build() (err error) {
	if b.dir, err = os.MkdirTemp("", "flyproxy-image-"); err != nil {
		return err
	}
	b.overlay = overlayWorks(filepath.Join(b.dir, "try"))
	driver := "vfs"
	if b.overlay {
		driver = "overlay"
	}
	conf := fmt.Sprintf("[storage]\ndriver=%q\ngraphroot=%q\nrunroot=%q\n", driver, b.dir+"/storage", b.dir+"/run")
	if err := errors.Join(os.Mkdir(b.dir+"/tmp", 0o700), os.WriteFile(b.dir+"/storage.conf", []byte(conf), 0o600)); err != nil {
		return err
	}
	var goEnv struct{ GOMODCACHE, GOCACHE string }
	if out, err := exec.Command("go", "env", "-json").Output(); err != nil {
		return err
	} else if err := json.Unmarshal(out, &goEnv); err != nil {
		return err
	}
	// What this machine has of modules and compiled packages is used, so that a build takes seconds.
	caches := fmt.Sprintf("--pull-never --quiet --volume %s:/go/pkg/mod --volume %s:/root/.cache/go-build", goEnv.GOMODCACHE, goEnv.GOCACHE)
	if err := b.run("base images", "../../tools/image-bases.sh"); err != nil {
		return err
	}
	build := func(name, target, platform string) error {
		err := b.run(name, "make", "-C", "../..", "image", "BUILDER=buildah", "VERSION="+version, "IMAGE=test:"+name, "TARGET="+target,
			"PLATFORM="+platform, "IMAGE_FLAGS="+caches)
		if err != nil {
			return err
		}
		return b.lay(name)
	}
	// Side by side: the app's image awaits packages, the others the compiler.
	var ofBinary, ofApp error
	var both sync.WaitGroup
	both.Go(func() {
		ofBinary = errors.Join(
			build("flyproxy-amd64", "", ""), // what comes without a word
			build("flyproxy-arm64", "flyproxy", "linux/arm64"))
	})
	both.Go(func() { ofApp = build("app-amd64", "app", "linux/amd64") })
	both.Wait()
	return errors.Join(ofBinary, ofApp)
}

// layOut copies the root of an image to a plain folder.
const layOut = `set -e
container=$(buildah from --pull-never "$1")
cp -a "$(buildah mount "$container")" "$2"
buildah rm "$container"`

// lay copies an image's root out of the storage, and reads how it is to be run.
func (b *builder) lay(name string) error {
	i, from := &image{root: filepath.Join(b.dir, name)}, "localhost/test:"+name
	inspected, err := b.output("buildah", "inspect", "--type", "image", from)
	if err != nil {
		return err
	}
	var is struct {
		OCIv1 struct {
			Config struct {
				Env, Cmd []string
				User     string
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(inspected), &is); err != nil {
		return fmt.Errorf("%s: %w", inspected, err)
	}
	i.env, i.cmd, i.user = is.OCIv1.Config.Env, is.OCIv1.Config.Cmd, is.OCIv1.Config.User
	b.mu.Lock()
	b.images[name] = i
	b.mu.Unlock()
	return b.run("laying out "+name, "sh", "-c", layOut, "layOut", from, i.root)
}

// command makes one that uses the storage of our own. What it mounts only it and its children see, and the kernel removes it with them.
func (b *builder) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+b.dir+"/storage.conf", "BUILDAH_ISOLATION=chroot", "TMPDIR="+b.dir+"/tmp")
	cmd.Stderr = b
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (b *builder) output(argv ...string) (string, error) {
	out, err := b.command(argv...).Output()
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return strings.TrimSpace(string(out)), err
}

// Write keeps what the steps print.
func (b *builder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

// run runs a step and keeps how long it took.
func (b *builder) run(what string, argv ...string) error {
	cmd, began := b.command(argv...), time.Now()
	cmd.Stdout = b
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = append(b.took, fmt.Sprintf("%s %v", what, time.Since(began).Round(100*time.Millisecond)))
	return nil
}

func (b *builder) remove() {
	if b.dir == "" {
		return
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// overlayWorks tries to mount one.
func overlayWorks(dir string) bool {
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if os.MkdirAll(filepath.Join(dir, d), 0o700) != nil {
			return false
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if unix.Mount("overlay", dir+"/merged", "overlay", 0, options) != nil {
		return false
	}
	return unix.Unmount(dir+"/merged", 0) == nil
}
