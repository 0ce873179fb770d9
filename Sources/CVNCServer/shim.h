// libvncserver as an encoder of pixels, and nothing else: no sockets of its own, no security, no input, no threads.
//
// Every viewer has a screen of its own, for a viewer that does not read holds the locks of its screen for as long as libvncserver waits
// for it (17 s were measured): on a shared one it would hold up every change of mode. The pixels are shared; they belong to the exporter.
// A viewer's encoder is used by one thread only.
#ifndef DEMUX_CVNCSERVER_H
#define DEMUX_CVNCSERVER_H

#include <errno.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct demux_encoder {
    rfbScreenInfo screen;
    rfbCursor cursor;
    rfbClientPtr client;
    uint32_t *cursor_pixels;
    unsigned char *cursor_source, *cursor_mask;
};

static inline enum rfbNewClientAction demux_encoder_accept(rfbClientPtr client) {
    (void)client;
    return RFB_CLIENT_ACCEPT;
}

// What all screens begin as. Made once: rfbGetScreen initialises locks that the whole library shares.
static inline rfbScreenInfo *demux_encoder_template(void) {
    rfbLogEnable(0);
    rfbScreenInfo *screen = rfbGetScreen(NULL, NULL, 640, 480, 8, 3, 4);
    if (!screen) return NULL;
    screen->serverFormat.depth = 24;
    screen->serverFormat.redShift = 16;
    screen->serverFormat.greenShift = 8;
    screen->serverFormat.blueShift = 0;
    screen->depth = 24;
    screen->deferUpdateTime = 0;
    screen->maxRectsPerUpdate = 1000;
    screen->permitFileTransfer = FALSE;
    screen->newClientHook = demux_encoder_accept;
    // Without it rfbCloseClient would close the socket, which is not the library's.
    screen->backgroundLoop = TRUE;
    return screen;
}

// A cursor of one transparent pixel: none at all makes CopyRect crash for viewers without cursor shapes.
static inline void demux_encoder_no_cursor(struct demux_encoder *encoder) {
    encoder->cursor.width = encoder->cursor.height = 1;
    encoder->cursor.xhot = encoder->cursor.yhot = 0;
    encoder->cursor_pixels[0] = 0;
    encoder->cursor_source[0] = encoder->cursor_mask[0] = 0;
}

enum { DEMUX_CURSOR_SIDE = 64 };

// `feed` is one end of a socket pair, through which the encoder hears what the viewer has said; its other end must be readable there
// already with "RFB ", for otherwise the library waits 100 ms for a WebSocket's greeting. `wait` in milliseconds: how long a viewer may
// take nothing before it is given up.
static inline struct demux_encoder *demux_encoder_create(const rfbScreenInfo *template_, int feed, int wait) {
    struct demux_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) return NULL;
    encoder->cursor_pixels = calloc(DEMUX_CURSOR_SIDE * DEMUX_CURSOR_SIDE, 4);
    encoder->cursor_source = calloc(DEMUX_CURSOR_SIDE * DEMUX_CURSOR_SIDE / 8, 1);
    encoder->cursor_mask = calloc(DEMUX_CURSOR_SIDE * DEMUX_CURSOR_SIDE / 8, 1);
    if (!encoder->cursor_pixels || !encoder->cursor_source || !encoder->cursor_mask) goto failed;
    encoder->screen = *template_;
    encoder->screen.maxClientWait = wait;
    encoder->cursor.richSource = (unsigned char *)encoder->cursor_pixels;
    encoder->cursor.source = encoder->cursor_source;
    encoder->cursor.mask = encoder->cursor_mask;
    demux_encoder_no_cursor(encoder);
    encoder->screen.cursor = &encoder->cursor;
    pthread_mutex_init(&encoder->screen.cursorMutex, NULL);
    encoder->client = rfbNewClient(&encoder->screen, feed);
    if (!encoder->client) goto failed;
    // Version, security and ClientInit have been dealt with.
    encoder->client->protocolMajorVersion = 3;
    encoder->client->protocolMinorVersion = 8;
    encoder->client->state = RFB_NORMAL;
    encoder->client->enableCursorShapeUpdates = TRUE;
    return encoder;
failed:
    free(encoder->cursor_pixels);
    free(encoder->cursor_source);
    free(encoder->cursor_mask);
    free(encoder);
    return NULL;
}

// Closes no descriptor.
static inline void demux_encoder_destroy(struct demux_encoder *encoder) {
    encoder->client->sock = RFB_INVALID_SOCKET;
    rfbClientConnectionGone(encoder->client);
    pthread_mutex_destroy(&encoder->screen.cursorMutex);
    free(encoder->screen.underCursorBuffer);
    free(encoder->cursor_pixels);
    free(encoder->cursor_source);
    free(encoder->cursor_mask);
    free(encoder);
}

static inline int demux_encoder_is_open(const struct demux_encoder *encoder) { return encoder->client->state == RFB_NORMAL; }

// Has one whole message read that waits in the feed.
static inline void demux_encoder_hear(struct demux_encoder *encoder, int feed) {
    encoder->client->sock = feed;
    rfbProcessClientMessage(encoder->client);
}

// After the list of encodings: a viewer without cursor shapes must not get the cursor drawn into the pixels, which others share.
static inline void demux_encoder_set_shapes(struct demux_encoder *encoder, int wanted) {
    encoder->client->enableCursorShapeUpdates = TRUE;
    encoder->client->enableCursorPosUpdates = FALSE;
    encoder->client->cursorWasChanged = wanted ? TRUE : FALSE;
}

// Where updates are written to.
static inline void demux_encoder_set_socket(struct demux_encoder *encoder, int socket) { encoder->client->sock = socket; }

// Other pixels, of another size: everything is to be sent. Viewers that can be told of the size are told.
static inline void demux_encoder_set_pixels(struct demux_encoder *encoder, void *pixels, int width, int height) {
    rfbClientPtr client = encoder->client;
    int resized = encoder->screen.width != width || encoder->screen.height != height;
    encoder->screen.frameBuffer = pixels;
    encoder->screen.width = width;
    encoder->screen.height = height;
    encoder->screen.paddedWidthInBytes = width * 4;
    sraRgnDestroy(client->modifiedRegion);
    client->modifiedRegion = sraRgnCreateRect(0, 0, width, height);
    sraRgnMakeEmpty(client->copyRegion);
    client->copyDX = client->copyDY = 0;
    // What was asked of the old picture is asked of the new one as far as that goes.
    sraRgnAnd(client->requestedRegion, client->modifiedRegion);
    if (resized && client->useNewFBSize) client->newFBSizePending = TRUE;
}

// The part of a rectangle that lies in the encoder's picture; NULL when there is none. Every rectangle that the library gets has passed
// here: it divides by widths, and turns a rectangle that lies outside into one of negative size.
static inline sraRegionPtr demux_encoder_cut(const struct demux_encoder *encoder, int x, int y, int width, int height) {
    int left = x > 0 ? x : 0;
    int top = y > 0 ? y : 0;
    int right = x + width < encoder->screen.width ? x + width : encoder->screen.width;
    int bottom = y + height < encoder->screen.height ? y + height : encoder->screen.height;
    return left < right && top < bottom ? sraRgnCreateRect(left, top, right, bottom) : NULL;
}

static inline void demux_encoder_mark(struct demux_encoder *encoder, int x, int y, int width, int height) {
    sraRegionPtr area = demux_encoder_cut(encoder, x, y, width, height);
    if (!area) return;
    rfbMarkRegionAsModified(&encoder->screen, area);
    sraRgnDestroy(area);
}

// The rectangle now has the pixels that were `dx`, `dy` to the upper left of it. What came from outside the picture is sent as pixels.
static inline void demux_encoder_copied(struct demux_encoder *encoder, int x, int y, int width, int height, int dx, int dy) {
    sraRegionPtr target = demux_encoder_cut(encoder, x, y, width, height);
    if (!target) return;
    sraRegionPtr copied = demux_encoder_cut(encoder, x - dx, y - dy, width, height);
    if (copied) {
        sraRgnOffset(copied, dx, dy);
        sraRgnAnd(copied, target);
        sraRgnSubtract(target, copied);
        if (!sraRgnEmpty(copied)) rfbScheduleCopyRegion(&encoder->screen, copied, dx, dy);
        sraRgnDestroy(copied);
    }
    if (!sraRgnEmpty(target)) rfbMarkRegionAsModified(&encoder->screen, target);
    sraRgnDestroy(target);
}

// `pixels`: width × height words, alpha in the highest byte, multiplied; NULL: no cursor.
static inline void demux_encoder_set_cursor(struct demux_encoder *encoder, const uint32_t *pixels, int width, int height, int hot_x, int hot_y, int shown) {
    if (!pixels || width < 1 || height < 1 || width > DEMUX_CURSOR_SIDE || height > DEMUX_CURSOR_SIDE) {
        demux_encoder_no_cursor(encoder);
    } else {
        int line = (width + 7) / 8;
        memcpy(encoder->cursor_pixels, pixels, (size_t)width * (size_t)height * 4);
        memset(encoder->cursor_source, 0, DEMUX_CURSOR_SIDE * DEMUX_CURSOR_SIDE / 8);
        memset(encoder->cursor_mask, 0, DEMUX_CURSOR_SIDE * DEMUX_CURSOR_SIDE / 8);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                uint32_t pixel = pixels[y * width + x];
                unsigned bit = 0x80u >> (x & 7);
                if (pixel >> 24 >= 128) encoder->cursor_mask[y * line + x / 8] |= (unsigned char)bit;
                // Two colours for viewers that know no more: white where it is rather light.
                if ((pixel >> 16 & 255) + (pixel >> 8 & 255) + (pixel & 255) >= 384) encoder->cursor_source[y * line + x / 8] |= (unsigned char)bit;
            }
        encoder->cursor.width = (unsigned short)width;
        encoder->cursor.height = (unsigned short)height;
        encoder->cursor.xhot = (unsigned short)hot_x;
        encoder->cursor.yhot = (unsigned short)hot_y;
        encoder->cursor.foreRed = encoder->cursor.foreGreen = encoder->cursor.foreBlue = 0xffff;
        encoder->cursor.backRed = encoder->cursor.backGreen = encoder->cursor.backBlue = 0;
    }
    if (shown) encoder->client->cursorWasChanged = TRUE;
}

// Has the size said with the next update, and in answer to whom. `reason`: 0 the guest, 1 this viewer. `status`: 0 done, 4 asked of the guest.
static inline void demux_encoder_say_size(struct demux_encoder *encoder, int reason, int status) {
    if (!encoder->client->useExtDesktopSize) return;
    encoder->client->requestedDesktopSizeChange = reason;
    encoder->client->lastDesktopSizeChangeError = status;
    encoder->client->newFBSizePending = TRUE;
}

// The viewer's wish for what changes in a part of the picture (`incremental`), or for that part as it is: what the library does with
// FramebufferUpdateRequest, which it never sees.
static inline void demux_encoder_request(struct demux_encoder *encoder, int x, int y, int width, int height, int incremental) {
    rfbClientPtr client = encoder->client;
    // Without it no cursor would be sent.
    client->readyForSetColourMapEntries = TRUE;
    sraRegionPtr area = demux_encoder_cut(encoder, x, y, width, height);
    if (!area) return;
    sraRgnOr(client->requestedRegion, area);
    if (!incremental) {
        sraRgnOr(client->modifiedRegion, area);
        sraRgnSubtract(client->copyRegion, area);
        if (client->useExtDesktopSize) client->newFBSizePending = TRUE;
    }
    sraRgnDestroy(area);
}

// Whether there may be something that the viewer has not been sent.
static inline int demux_encoder_has_news(const struct demux_encoder *encoder) {
    const rfbClientRec *client = encoder->client;
    return FB_UPDATE_PENDING(client) || !sraRgnEmpty(client->modifiedRegion) || !sraRgnEmpty(client->copyRegion);
}

static inline int demux_encoder_has_request(const struct demux_encoder *encoder) { return !sraRgnEmpty(encoder->client->requestedRegion); }

// Sends an update if there is something to send and the viewer has asked for it; waits for the viewer. 0: nothing was sent.
static inline int demux_encoder_update(struct demux_encoder *encoder) { return rfbUpdateClient(encoder->client); }

// Sends bytes as they are, between updates. -1: the viewer is gone or reads nothing.
static inline int demux_encoder_write(struct demux_encoder *encoder, const void *bytes, int length) {
    return rfbWriteExact(encoder->client, (const char *)bytes, length) < 0 ? -1 : 0;
}

// What has been sent so far: bytes (they wrap) and rectangles.
static inline uint32_t demux_encoder_bytes(const struct demux_encoder *encoder) { return (uint32_t)rfbStatGetSentBytes(encoder->client); }
static inline uint32_t demux_encoder_rectangles(const struct demux_encoder *encoder) {
    uint32_t sum = 0;
    for (const rfbStatList *entry = encoder->client->statEncList; entry; entry = entry->Next) sum += entry->sentCount;
    return sum;
}

#endif
