/// Argument lists as libxl 4.17 writes them: the first one measured on Xen, the others from its source.
enum LibxlLists {
    /// One disk, one NIC, stdvga, VNC.
    static let ordinary = [
        "-xen-domid", "1", "-no-shutdown", "-chardev", "socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-1,server=on,wait=off", "-mon",
        "chardev=libxl-cmd,mode=control", "-chardev", "socket,id=libxenstat-cmd,path=/var/run/xen/qmp-libxenstat-1,server=on,wait=off",
        "-mon", "chardev=libxenstat-cmd,mode=control", "-nodefaults", "-no-user-config", "-name", "g", "-vnc", "127.0.0.1:0,to=99",
        "-display", "none", "-serial", "pty", "-device", "VGA,vgamem_mb=16", "-boot", "order=c", "-usb", "-usbdevice", "tablet", "-device",
        "e1000,id=nic0,netdev=net0,mac=00:16:3e:11:22:33", "-netdev",
        "type=tap,id=net0,ifname=vif1.0-emu,br=xenbr0,script=no,downscript=no", "-machine", "xenfv,suppress-vmdesc=on", "-m", "48", "-drive",
        "file=/tmp/agent.img,if=ide,index=0,media=disk,format=raw,cache=writeback",
    ]

    /// dm_restrict=1, restored from a file, no NIC, two vCPUs, a CD, settings of Demux's own.
    static let restricted = [
        "-xen-domid", "7", "-no-shutdown", "-chardev", "socket,id=libxl-cmd,fd=19,server=on,wait=off", "-S", "-mon",
        "chardev=libxl-cmd,mode=control", "-chardev", "socket,id=libxenstat-cmd,path=/var/run/xen/qmp-libxenstat-7,server=on,wait=off",
        "-mon", "chardev=libxenstat-cmd,mode=control", "-nodefaults", "-no-user-config", "-name", "-S", "-vnc", "none", "-display", "none",
        "-device", "cirrus-vga,vgamem_mb=8", "-boot", "order=cd", "-smp", "1,maxcpus=2", "-net", "none", "-xen-domid-restrict", "-chroot",
        "/var/run/xen/qemu-root-7", "-incoming", "fd:15", "-machine", "pc,accel=xen,suppress-vmdesc=on", "--demux-spec=/etc/demux/web.yaml",
        "-m", "504", "-drive", "if=none,readonly=on,id=ide-5632,file=/srv/a,,b.iso,format=raw", "-device",
        "ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0", "-runas", "131079:131072",
    ]

    /// The question that newer versions of libxl ask before they start a guest.
    static let probe = [
        "-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=xen", "-chardev",
        "socket,id=libxl-cmd,fd=17,server=on,wait=off", "-mon", "chardev=libxl-cmd,mode=control",
    ]
}
